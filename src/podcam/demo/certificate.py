"""A certificate for the demo's TLS: self-made by openssl(1), for one name, for a day."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from podcam.errors import PodcamError


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files: the certificate is its own authority."""

    certificate: Path
    key: Path
    name: str


def make_certificate(folder: Path, name: str) -> Certificate:
    """Make a key and a self-signed certificate for `name` in `folder`; raises PodcamError without openssl."""
    made = Certificate(folder / "server.crt", folder / "server.key", name)
    command = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += [
        "-addext",
        f"subjectAltName=DNS:{name}",
        "-keyout",
        str(made.key),
        "-out",
        str(made.certificate),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise PodcamError(
            "--tls makes a certificate with openssl: install it (apt-get install openssl)"
        ) from None
    except subprocess.CalledProcessError as error:
        raise PodcamError(f"openssl made no certificate: {error.stderr.strip()}") from error
    return made

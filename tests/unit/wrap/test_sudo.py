from podcam.wrap.sudo import sudoers_line


def test_the_line_allows_these_options_and_no_others() -> None:
    command = ["/usr/bin/podcam", "wrap", "--beside", "--port", "5432", "--ring", "8x25MB"]
    assert sudoers_line("app", command) == (
        "app ALL=(root) NOPASSWD: /usr/bin/podcam wrap --beside --port 5432 --ring 8x25MB"
    )


def test_what_sudoers_reads_as_its_own_is_escaped() -> None:
    command = ["/usr/bin/podcam", "--dir=/scratch", "--host", "fd00::1", "--bpf", "tcp[13]&4!=0"]
    assert sudoers_line("app", command).partition("NOPASSWD: ")[2] == (
        r"/usr/bin/podcam --dir\=/scratch --host fd00\:\:1 --bpf tcp\[13\]&4\!\=0"
    )

"""What a person does to a cluster from outside: targets, cost, install, uninstall, doctor.

It asks the API server, and kubectl for what kubectl does better; it prints nothing. Neither an agent nor
`podcam record` needs it.
"""

from podcam.cluster.kubectl import Kubectl

__all__ = ["Kubectl"]

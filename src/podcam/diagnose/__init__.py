"""Rules: a pure function from a connection to a verdict, with the frames that prove it.

Opens no file: `columns` hands it connections. What others may use:

    case = diagnose(["a.pcapng"], progress=None)   # -> Case
    case.diagnosis                                 # model.diagnosis.Diagnosis
    case.conversation(id)                          # Conversation of a DiagnosedConnection's id
    judge(conversation, context)                   # -> model.diagnosis.Verdict
"""

from podcam.diagnose.case import Case, diagnose
from podcam.diagnose.context import Context
from podcam.diagnose.judge import judge

__all__ = ["Case", "Context", "diagnose", "judge"]

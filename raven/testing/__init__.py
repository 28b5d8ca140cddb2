"""For tests of adapters: frame files, a session driven by hand, the conformance suite, and a package to begin with.

`raven.testing.plugin` makes each rule of the suite a test of its own; it is the only module here that imports pytest.
"""

from raven.testing.conformance import RULES, Rule, adapters_of, check_adapter_package, check_rule, check_subject
from raven.testing.driver import Driver, Step, events_of, open_session, play
from raven.testing.kit import KIT_GROUP, Answer, ConformanceKit, LateSubscription, Scenario, StatusOutput, find_kit
from raven.testing.recording import (
    Frame,
    format_event,
    parse_event,
    read_events,
    read_frames,
    write_events,
    write_frames,
)
from raven.testing.report import Outcome, Report, Result, Verdict, format_report
from raven.testing.scaffold import write_package
from raven.testing.subject import Subject

__all__ = [
    "KIT_GROUP",
    "RULES",
    "Answer",
    "ConformanceKit",
    "Driver",
    "Frame",
    "LateSubscription",
    "Outcome",
    "Report",
    "Result",
    "Rule",
    "Scenario",
    "StatusOutput",
    "Step",
    "Subject",
    "Verdict",
    "adapters_of",
    "check_adapter_package",
    "check_rule",
    "check_subject",
    "events_of",
    "find_kit",
    "format_event",
    "format_report",
    "open_session",
    "parse_event",
    "play",
    "read_events",
    "read_frames",
    "write_events",
    "write_frames",
    "write_package",
]

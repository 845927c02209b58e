"""The rows of the specification that tests on a real server show, each by the name its tests carry (`@row(...)`).

The first two groups are the first cells of its two tables, word for word; the others name its sentences.
"""

from __future__ import annotations

ARRIVALS = (
    "no record; asked of the leader too",
    "item body cannot be decoded",
    "record cannot be decoded, or has no usable type (grammar, length)",
    "complete",
    "expired, terminated, queue_error, unreachable",
    "active, first delivery of this item, younger (server's time of the revision) than the run time",
    "active otherwise (redelivered: the server itself ended the earlier lease)",
    "retry with `next_try_at` more than 250 ms away",
    "past the task's deadline",
    "tries at the cap",
    "blocked",
    "a state nobody knows",
    'new, retry that is due, `""`',
)
OUTCOMES = (
    'result (any reply that no rule below matches; an empty body is a result: `""`)',
    "`AJ-Terminate`",
    "`AJ-Error`, `Nats-Service-Error`, tries left",
    "the same, none left",
    "timed out",
    "reply that cannot be parsed (a header block that is none, a status other than 503)",
    "result does not fit",
    "active save or request does not fit",
    "nobody there (503)",
    "`AJ-Busy`",
    "interrupted (drain limit passed)",
    "revision lost",
)
REPLIES = (
    "Retry-after: a non-negative integer of milliseconds, at most 30 days (clamped)",
    "the schedule is never later than the task's deadline, so that it expires on time",
    "Backoff index: counted tries so far, from 1",
    "Backoff: Go's named policies keep Go's formula",
    "Backoff: own policies draw evenly from step*(1-j) to step*(1+j)",
    "Backoff: a queue without one has `default`",
    "Header names are compared without case, the first value that is not empty counts",
    "Texts: invalid UTF-8 becomes U+FFFD, control characters are removed, 4,096 bytes at most",
    "two replies to one request: the second changes nothing and is counted",
    "Nobody there: the catch-all is asked where it is enabled",
)
COUNTING = (
    "Counting: the active save raises `tries` by one before the request goes out",
    "Counting: tries = counted attempts, whatever else happened in between",
    "Counting: a crash at worst leaves one try counted that did not run",
)
LEASES = (
    "Lease: renewed while the attempt runs",
    "Lease: a killed bridge's task runs elsewhere after the lease, not the run time",
    "Lease: one that another tool shortens is kept by as soon as it is seen, and told; nothing runs twice here",
    "Lease: one that has run out here sends no ack",
    "Lease: a queue made by Go has run time = lease = ack_wait, and nothing is renewed beyond it",
    "Effective run time = min(run time, task's deadline - now); the handler's deadline is a margin before its end",
    "`tried` is the instant of the active save",
)
HEARTBEATS = (
    "Heartbeats: what a request offers",
    "Heartbeats: each gives a full run time from now on, and the lease goes on being renewed",
    "Heartbeats: none goes past the task's own deadline",
    "Heartbeats: once beaten, three missed beats end the attempt as failed",
    "Heartbeats: junk harms nobody and is counted",
    "Heartbeats: a queue that is not renewed offers none",
    "Heartbeats: a drain waits for an attempt that beats as for any other",
    "Heartbeats: a bridge that stood still keeps to its lease, whatever beats came meanwhile",
    "Progress: an event within a second, ten a second at most, the last one before the end, stored nowhere",
)
DEAD_LETTERS = (
    "Dead letters: the stream, its limits, one message a subject",
    "Dead letters: the body is the task as finally saved, byte for byte; the headers say the rest",
    "Dead letters: line breaks of the error become blanks in its header",
    "Dead letters: counted in ajc_bridge_dead_letters_total",
    "[retention]: how long a finished task is kept",
    "[retention]: discard: the record is removed, the event still published",
)
QUEUES = (
    "Queues: JetStream's configuration is the definition, the rest is stream metadata",
    "Queues: a field that the file sets is applied at start and on SIGHUP and logged with before and after",
    "Queues: one field that cannot change (storage, retention) is an error that names it, exit 2",
    "Queues: `run` serves the queues of its file, or every one there is and DEFAULT, looking again every 10 s",
    "Queues: `bridge.create = false` makes nothing",
    "Queues: a queue at its own limit gives its share of slots to the others",
    "Queues: a queue that Go made works unchanged",
    "Queues: a task store made by Go keeps every setting that we have no reason to change",
    "Queues: a Go queue whose name has a colon is refused with that reason",
    "Queues: items that reach Go's max_deliver are found and settled by the same decide()",
    "Queues: shared streams that are removed under a running bridge are made again",
    "Rescue: orphaned and evicted tasks are found",
    "An item that waits is moved by the server itself, with no bridge running",
    "When a task's `queue` differs from the queue that held its item, the item's queue counts",
    "Priority: two queues with weights 3:1 under load get about 3:1 of the slots; changed by SIGHUP",
    "Several queues in one process",
    "Several bridges serve one queue",
    "A queue that producers keep full: items whose time has come are put into it all the same",
    "Retries, parking and waits hold no slot",
    "10,000 tasks waiting for a retry leave the queue's other tasks at full speed",
)
PROCESS = (
    "Exit code 0: drained (what was still running when the limit passed goes back uncounted)",
    "Exit code 2: configuration; one line each on stderr, with the key's path",
    "Exit code 5: connection refused for good or closed for good",
    "A second signal ends it at once (1)",
    "SIGHUP applies what can change while running, and says what cannot",
    "`/healthz` is 200 while the loop turns, server or not",
    "`/readyz` is 200 when connected with every served queue bound, else 503, with what is missing",
    "`http.listen`: `off` allowed, port 0 allowed; the log line `action=http.listening` has the `url`",
    "Environment: `AJC_<SECTION>__<KEY>`; an unknown `AJC_` variable is a warning",
    "A reader of the log that does not keep up stops nothing; what is left out is counted and told",
    "Metrics: past the first 200 types, one that was never served successfully is `other`",
)
TROUBLE = (
    "Connection: starts before the server does",
    "Connection: survives a server restart in the middle of running attempts",
    "Connection: a server that stands still for a while; saves whose answer was lost are read back",
    "Store: a server without room refuses; nothing is lost or done twice, and work goes on when there is room again",
    "Connection: a full send buffer, slow consumers: a bridge that stood still goes on",
    "Connection: survives a lost pull",
    "Connection: private inbox prefix",
    "Bad input: replies with huge, broken or lying headers end an attempt, never the daemon",
    "Bad input: a flood of hostile items and records leaves the queue's other tasks running",
    "Bad input: numbers and texts at their limits",
)
CANCEL = (
    "Cancel: new, waiting, parked and running tasks; no dead letter",
    "Cancel: a running attempt's slot is free within a second; its late reply is counted and changes nothing",
    "Cancel: a message there alone cancels nothing: the store's word counts",
    "Cancel: a bridge that missed the message finds it at its save, and acknowledges the item",
    "Cancel: never a lost race: a task that completed first stays complete, and the caller learns it",
    "Cancel: killed between any two steps, the outcome is one of the two, and nothing is left",
)
ROWS = (
    *ARRIVALS, *OUTCOMES, *REPLIES, *COUNTING, *LEASES, *HEARTBEATS, *DEAD_LETTERS, *QUEUES, *PROCESS, *TROUBLE,
    *CANCEL,
)  # fmt: skip

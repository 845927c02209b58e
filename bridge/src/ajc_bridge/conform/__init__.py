"""The conformance kit: plays the bridge against a responder, and says which rules of the exec protocol it keeps.

`rules` is the table, `player` sends requests as a bridge does, `checks` has what is tried, `kit` puts it in order,
`report` and `junit` tell what was seen. It needs a NATS server, and neither bridge nor JetStream.
"""

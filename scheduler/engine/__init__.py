"""The decision as a pure function: `place(snapshot) -> Plan`. No I/O, no clock, no randomness, no prose."""

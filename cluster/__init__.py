"""Where it runs: members of the network, their computing power, agents and backends."""

"""The scheduler on a virtual clock: recorded and made-up work, decided by the production engine."""

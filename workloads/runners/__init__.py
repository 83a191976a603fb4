"""How work runs: SQL, processes of user code, the inputs they read and the progress they report."""

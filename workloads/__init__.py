"""What runs, and on what data: job specs, units, runners and the data-product catalogue."""

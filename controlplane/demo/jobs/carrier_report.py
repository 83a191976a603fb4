"""A buyer's own script: which carriers leave late, as a CSV file.

It knows nothing of cpn but three variables: CPN_INPUT_FLIGHTS and CPN_INPUT_AIRLINES are the paths of its
inputs, CPN_OUTPUT_DIR is where its result goes.
"""

import argparse
import os
import time
from pathlib import Path

import pandas  # type: ignore[import-untyped]


def main() -> None:
    """Read, count, tell, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worst", type=int, default=5, help="how many carriers to name")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two lines, to watch it being followed live")
    options = parser.parse_args()

    flights = pandas.read_parquet(os.environ["CPN_INPUT_FLIGHTS"], columns=["carrier", "dep_delay"])
    airlines = pandas.read_parquet(os.environ["CPN_INPUT_AIRLINES"])
    print(f"{len(flights):,} flights of {flights['carrier'].nunique()} carriers", flush=True)

    report = flights.groupby("carrier").agg(flights=("dep_delay", "size"), mean_delay_min=("dep_delay", "mean")).reset_index()
    report = report.merge(airlines, on="carrier").sort_values("mean_delay_min", ascending=False)
    for rank, row in enumerate(report.head(options.worst).itertuples(), start=1):
        time.sleep(options.pause)
        print(f"{rank}. {row.name}: {row.mean_delay_min:.1f} min late on average over {row.flights:,} flights", flush=True)

    target = Path(os.environ["CPN_OUTPUT_DIR"]) / "carriers.csv"
    report.to_csv(target, index=False)
    print(f"wrote {target.name} with {len(report)} rows", flush=True)


if __name__ == "__main__":
    main()

"""A buyer's own training: a linear model, by stochastic gradient descent, of whether a flight leaves late.

After each epoch it appends a line to the file named by CPN_PROGRESS_FILE; that is all it takes to have the
metrics shown while it runs. The weights are its result.
"""

import argparse
import json
import os
from pathlib import Path

import numpy
import pandas  # type: ignore[import-untyped]
from sklearn.linear_model import SGDClassifier  # type: ignore[import-untyped]
from sklearn.metrics import log_loss, roc_auc_score  # type: ignore[import-untyped]

LATE_MIN = 15
BATCH = 4096


def read(path: str) -> tuple[numpy.ndarray, numpy.ndarray, list[str]]:
    """Features[N, F], labels[N] and the features' names, of all flights that left."""
    columns = ["month", "hour", "distance", "carrier", "origin", "dep_delay"]
    flights = pandas.read_parquet(path, columns=columns).dropna(subset=["dep_delay"])
    hour = 2 * numpy.pi * flights["hour"] / 24
    month = 2 * numpy.pi * flights["month"] / 12
    numbers = pandas.DataFrame({
        "hour_sin": numpy.sin(hour), "hour_cos": numpy.cos(hour), "month_sin": numpy.sin(month), "month_cos": numpy.cos(month),
        "distance": (flights["distance"] - flights["distance"].mean()) / flights["distance"].std(),
    })  # fmt: skip
    names = pandas.get_dummies(flights[["carrier", "origin"]], dtype=float)
    table = pandas.concat([numbers, names], axis=1)
    return table.to_numpy(dtype="float32"), (flights["dep_delay"] > LATE_MIN).to_numpy(dtype=int), list(table.columns)


def main() -> None:
    """Train, reporting the loss on flights that were not trained on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()

    features, late, names = read(os.environ["CPN_INPUT_FLIGHTS"])
    order = numpy.random.default_rng(2013).permutation(len(late))
    held_out, trained_on = order[: len(order) // 5], order[len(order) // 5 :]
    print(f"{len(trained_on):,} flights to train on, {len(held_out):,} to test with, {len(names)} features", flush=True)

    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.00002, random_state=7)
    for epoch in range(1, options.epochs + 1):
        for start in range(0, len(trained_on), BATCH):
            batch = trained_on[start : start + BATCH]
            model.partial_fit(features[batch], late[batch], classes=[0, 1])
        chance = model.predict_proba(features[held_out])[:, 1]
        metrics = {"loss": float(log_loss(late[held_out], chance)), "auc": float(roc_auc_score(late[held_out], chance))}
        with open(os.environ["CPN_PROGRESS_FILE"], "a") as progress:
            progress.write(json.dumps({"step": epoch, "metrics": metrics}) + "\n")
        print(f"epoch {epoch}: {metrics}", flush=True)

    weights = dict(zip(names, model.coef_[0].tolist(), strict=True))
    (Path(os.environ["CPN_OUTPUT_DIR"]) / "weights.json").write_text(json.dumps(weights, indent=2))


if __name__ == "__main__":
    main()

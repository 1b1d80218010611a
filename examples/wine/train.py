"""Train a classifier on scikit-learn's wine data, and log parameters and metrics to the MLflow run we were given."""

import os

import mlflow
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split

SEED = int(os.environ["SEED"])
DATA_SEED = int(os.environ["DATA_SEED"])


def main() -> None:
    features, labels = load_wine(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, labels, test_size=0.4, random_state=DATA_SEED, stratify=labels
    )
    parameters = {"n_estimators": 60, "max_depth": 4, "random_state": SEED}
    model = RandomForestClassifier(**parameters).fit(train_x, train_y)
    metrics = {
        "test_accuracy": accuracy_score(test_y, model.predict(test_x)),
        "test_log_loss": log_loss(test_y, model.predict_proba(test_x)),
    }
    with mlflow.start_run():  # MLFLOW_RUN_ID names the run that envlock recorded the environment in
        mlflow.log_params(parameters)
        mlflow.log_metrics(metrics)
    print(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()

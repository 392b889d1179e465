"""Test accuracy and training loss by epoch, for each model."""

from dmlstudy.pages.charts import chart, line
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``curves``: two charts."""
    runs = experiment.runs
    accuracies, losses = [], []
    for number, run in enumerate(runs):
        for index, (class_set, tables) in enumerate(run["models"].items()):
            label = model_title(class_set)
            if len(runs) > 1:
                label += f", seed {run['seed']}"
            curve = tables["curves"]
            index = index + len(run["models"]) * number
            epochs = curve["epoch"].tolist()
            accuracies.append(line(label, epochs, curve["test_accuracy"].tolist(), index=index))
            losses.append(line(label, epochs, curve["train_loss"].tolist(), index=index))
    accuracy = chart(
        "accuracy",
        "Test accuracy during training (classes that the model was trained on)",
        "Line chart: precision at 1 on the test images of known classes, by epoch, for each "
        "model. The table of runs has the last points.",
        accuracies,
        x_title="epoch",
        y_title="precision@1",
        percent_y=True,
    )
    loss = chart(
        "loss",
        "Training loss",
        "Line chart: mean training loss by epoch, for each model.",
        losses,
        x_title="epoch",
        y_title="loss",
    )
    return {"curves": [accuracy, loss]}

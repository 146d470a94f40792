"""Other tools' views of a run: TensorBoard, MLflow, Weights & Biases. They are told values and decide nothing."""

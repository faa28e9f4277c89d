"""Per-record gradients in the form that is cheapest to measure and to sum up."""

from secure_train.dp.clipping.factors.base import Factor
from secure_train.dp.clipping.factors.budget import InstantiationBudget
from secure_train.dp.clipping.factors.combine import Tied, combine
from secure_train.dp.clipping.factors.convolution import Convolution
from secure_train.dp.clipping.factors.dense import Dense
from secure_train.dp.clipping.factors.lookup import Lookup
from secure_train.dp.clipping.factors.outer import Outer

__all__ = ["Convolution", "Dense", "Factor", "InstantiationBudget", "Lookup", "Outer", "Tied", "combine"]

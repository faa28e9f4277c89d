"""The control plane's database: engine, transactions and tables."""

from secure_train.db.base import Base, now
from secure_train.db.engine import Database
from secure_train.db.ids import new_id

__all__ = ["Base", "Database", "new_id", "now"]

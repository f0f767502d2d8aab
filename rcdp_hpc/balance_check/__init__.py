"""`rcdp balance-check`: whether balancing the classes pays on a user's data, measured in one pass over states."""

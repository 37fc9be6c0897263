"""PostgreSQL: one module per aggregate; rows become frozen records at once."""

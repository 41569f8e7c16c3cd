"""Where everything lies: object stores, the lake, its ledger, the warehouse and its tables."""

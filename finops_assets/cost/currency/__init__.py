"""The reporting currency: a table of dated rates, and the rollup converted with them."""

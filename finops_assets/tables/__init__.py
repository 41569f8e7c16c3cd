"""The one owner of every table of the warehouse and its published copy: name, columns, types, units, meaning."""

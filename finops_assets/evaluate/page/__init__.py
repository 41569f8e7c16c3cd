"""The page of a month: figures from the warehouse, drawings, and one HTML file that needs no other."""

"""The gates as plain predicates: what is judged, on which figures, against which limit."""

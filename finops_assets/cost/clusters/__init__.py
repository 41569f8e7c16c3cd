"""The charges of a cluster's nodes, split over what ran on them."""

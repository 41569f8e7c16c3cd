"""From raw days to attributed facts and the daily tables."""

"""Does the cost that the platform holds agree with an invoice, a native bill, another source of the same cost?

Plain functions over the lake. Every comparison is within one currency and one of billed and effective cost.
"""

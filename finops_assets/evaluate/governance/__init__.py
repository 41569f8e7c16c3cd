"""Tag governance: the policy, how far tags are from it, and who can mend that."""

"""How the shipped miniature models were trained, from public images only."""

"""How the shipped miniature models were made."""

"""A site whose views queue items with every option, and which keeps a ledger of them."""

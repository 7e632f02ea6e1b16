"""Where results come from: records, the chain they form, metadata, archives."""

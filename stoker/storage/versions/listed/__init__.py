"""What a manifest names: shards, raw parts, decisions, statistics, masks; and the lists that hold them."""

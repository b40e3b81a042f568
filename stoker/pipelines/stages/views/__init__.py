"""Views: versions that rules decide about anew from records alone, in which old shards are masked and not copied."""

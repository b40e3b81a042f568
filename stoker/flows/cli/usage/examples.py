"""An example or two for the help of each command; tests parse them."""

EXAMPLES = {
    "up": ("stoker up --detach",),
    "open": ("stoker open digits", "stoker open prefect", "stoker open --print"),
    "down": ("stoker down",),
    "example": ("stoker example", "stoker example digits"),
    "check": ("stoker check photos.toml", "stoker check photos.toml --sample 10"),
    "ingest": ("stoker ingest photos.toml", "stoker ingest photos.toml --runner processes --workers 8"),
    "curate": ("stoker curate photos --set near_duplicate_images.distance=20 --dry-run", "stoker curate photos.toml"),
    "pack": ("stoker pack photos",),
    "schedule": ('stoker schedule photos.toml --cron "0 3 * * *" --train cnn', "stoker schedule --list"),
    "index": ("stoker index /data/laion --as laion", "stoker index s3://bucket/train-{000..127}.tar"),
    "list": ("stoker list", "stoker list --store s3://bucket/corpora --json"),
    "show": ("stoker show photos", "stoker show photos@2 --json", "stoker show photos --reason too_small"),
    "diff": ("stoker diff photos@1 photos@2",),
    "why": ("stoker why photos https://example.org/cat.jpg", "stoker why photos pictures/cat/1.jpg"),
    "gc": ("stoker gc", "stoker gc photos --delete --older-than 7d"),
    "delete": ("stoker delete photos@2 --yes", "stoker delete photos"),
    "forget": (
        "stoker forget photos --url https://example.org/cat.jpg --dry-run",
        "stoker forget photos --host example.org --list takedown.txt --yes",
    ),
    "verify": ("stoker verify photos@2",),
    "train": ("stoker train cnn photos --epochs 5 --set width=32", "stoker train cnn photos@2 --resume"),
    "stream": ("stoker stream photos --limit 10", "stoker stream photos --bench --rate 5000"),
    "demo": ("stoker demo",),
    "help": ("stoker help", "stoker help image_urls", "stoker help train"),
}

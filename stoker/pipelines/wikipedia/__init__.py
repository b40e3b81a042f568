"""MediaWiki dumps: files, pages and their text."""

"""HTML pages: their images, links and licences."""

"""The app: a folder for each tab, `page` puts them together, `server` serves them."""

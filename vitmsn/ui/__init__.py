"""The app: a folder for each tab, `page` puts them together, `server` serves them."""

from vitmsn.ui import gradio_stubs

gradio_stubs.skip()  # before any module of the app imports Gradio

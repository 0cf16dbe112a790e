"""The browser app: the only room with Gradio and FastAPI."""

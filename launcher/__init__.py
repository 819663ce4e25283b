"""What runs inside a bundle. Never imports `bundler`; imports of rich and prompt_toolkit stay inside the REPL."""

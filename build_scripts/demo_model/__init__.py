"""The parts of train_demo.py: the demo model's data, network and export. Nothing else imports them but unit tests."""

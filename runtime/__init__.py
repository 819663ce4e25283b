"""What the build tool and the launcher share. Imports the standard library only."""

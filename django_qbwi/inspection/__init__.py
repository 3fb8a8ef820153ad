"""The channel between the processes of a site: who runs what, and who shall stop. No Django."""

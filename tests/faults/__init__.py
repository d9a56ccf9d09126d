"""A campaign of faults: commands are killed, signalled, starved of disk and fed damage; nothing is lost."""

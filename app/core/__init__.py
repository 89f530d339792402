"""What every wing stands on: settings, tables, storage, leases, logs."""

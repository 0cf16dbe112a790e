"""What people say of a result's mask: a layer of corrections beside it, who made them and when, and its exports."""

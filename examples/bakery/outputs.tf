output "sign" {
  description = "What the sign at the door says."
  value       = "${var.name}: ${terraform_data.door.output}"
}

output "loaves" {
  description = "How many loaves of each kind there are."
  value       = { for name, bread in terraform_data.loaves : name => bread.output.loaves }
}

output "flour_kg" {
  description = "How much flour was needed."
  value       = terraform_data.pantry.output.flour_kg
}

output "supplier_login" {
  description = "How to log in at the supplier's shop."
  value       = terraform_data.delivery.output.login
  sensitive   = true
}

variable "celsius" {
  description = "How hot the oven has to be."
  type        = number
}

resource "terraform_data" "oven" {
  input = { celsius = var.celsius }

  triggers_replace = var.celsius

  provisioner "local-exec" {
    quiet   = true
    command = <<-SHELL
      for step in 1 2 3 4 5 6; do
        echo "oven: $((20 + (${var.celsius} - 20) * step / 6)) °C"
        sleep 1
      done
      echo "oven: hot"
    SHELL
  }

  provisioner "local-exec" {
    when    = destroy
    quiet   = true
    command = "echo 'oven: cooling down'"
  }
}

output "celsius" {
  description = "How hot the oven is."
  value       = terraform_data.oven.output.celsius
}

# A small bakery opens tomorrow morning.
#
# Everything here is built into Terraform: no provider is downloaded, no cloud account is needed. What a real
# configuration would create in a cloud, this one pretends to do in a shell.

terraform {
  required_version = ">= 1.4"
}

locals {
  bread = { for name, recipe in var.bread : name => recipe if recipe.loaves > 0 }

  flour_kg = sum([for recipe in values(local.bread) : recipe.loaves * recipe.flour_g]) / 1000
}

resource "terraform_data" "pantry" {
  input = {
    flour_kg = local.flour_kg
    water_l  = local.flour_kg * 0.68
    salt_g   = local.flour_kg * 20
  }
}

# The supplier wants a password. Terraform, and the platform that runs it, keep it out of everything they show.
resource "terraform_data" "delivery" {
  input = {
    kg    = terraform_data.pantry.output.flour_kg
    login = "${lower(var.name)}:${var.supplier_password}"
  }

  triggers_replace = local.flour_kg
}

# Heating takes a while: this is the part to watch in the live log.
module "oven" {
  source = "./modules/oven"

  celsius = var.oven_celsius
}

resource "terraform_data" "loaves" {
  for_each = local.bread

  input = {
    name   = each.key
    loaves = each.value.loaves
    oven   = module.oven.celsius
  }

  provisioner "local-exec" {
    quiet   = true
    command = <<-SHELL
      echo "${each.key}: kneading dough for ${each.value.loaves} loaves"
      sleep 1
      echo "${each.key}: into the oven at ${module.oven.celsius} °C"
      sleep 1
      echo "${each.key}: golden brown"
    SHELL
  }

  provisioner "local-exec" {
    when    = destroy
    quiet   = true
    command = "echo '${self.input.name}: sold out'"
  }

  depends_on = [terraform_data.delivery]
}

resource "terraform_data" "door" {
  input = "open from ${var.opens_at}"

  depends_on = [terraform_data.loaves]
}

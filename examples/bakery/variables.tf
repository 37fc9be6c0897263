variable "name" {
  description = "What is written above the door."
  type        = string
  default     = "Morgenrot"
}

variable "opens_at" {
  description = "When the door opens, as HH:MM."
  type        = string
  default     = "06:30"

  validation {
    condition     = can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", var.opens_at))
    error_message = "Give the time as HH:MM, for example 06:30."
  }
}

variable "oven_celsius" {
  description = "How hot the oven has to be."
  type        = number
  default     = 240

  validation {
    condition     = var.oven_celsius >= 180 && var.oven_celsius <= 280
    error_message = "Bread needs between 180 and 280 °C."
  }
}

variable "bread" {
  description = "What is baked: how many loaves, and how much flour goes into one of them."
  type = map(object({
    loaves  = number
    flour_g = number
  }))
  default = {
    rye      = { loaves = 20, flour_g = 600 }
    baguette = { loaves = 36, flour_g = 250 }
    brioche  = { loaves = 12, flour_g = 300 }
  }
}

variable "supplier_password" {
  description = "What the flour supplier's shop asks for."
  type        = string
  sensitive   = true

  validation {
    condition     = length(var.supplier_password) >= 12
    error_message = "The supplier accepts nothing shorter than 12 characters."
  }
}

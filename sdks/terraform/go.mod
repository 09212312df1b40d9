module license-metering.example/terraform-provider-licensemetering

go 1.22

module license-metering.example/go

go 1.22

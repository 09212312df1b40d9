-- For people who use SQL: what deploy/billing-reader.sql lets them read. Columns are a contract.
create view billing_customer as
select customer_id, name, stripe_customer_id, created_at from customer;

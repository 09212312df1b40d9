-- For people who use SQL. deploy/billing-reader.sql lets them read this. The columns are a
-- contract.
create view billing_customer as
select customer_id, name, stripe_customer_id, created_at from customer;

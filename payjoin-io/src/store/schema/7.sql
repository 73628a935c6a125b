-- Change goes to the script of the payment.
ALTER TABLE invoices DROP COLUMN change;
